"""Figures: arrays in, matplotlib `Figure` out.

| module | functions |
|---|---|
| `posterior` | `posterior_2d` (the paper's figure 1) |
| `fields` | `posterior_fields`, all methods side by side |
| `maps`, `draws_strip`, `pixel_coverage`, `spectra` | `posterior_maps`, `draws_strip`,
`pixel_coverage`, `power_spectra`: a field, one posterior |
| `against_prior`, `pairs` | `marginals_against_prior`, `pair_plot` |
| `prediction` | `prediction_and_data` |
| `curves` | `objective_curves`, `pretraining_curves`, `accuracy_against_evaluations` |
| `marginals` | `marginals`, `moments_against_reference` |
| `calibration` | `rank_curves` |
| `style` | `style`, `save` |
| `palette` | `method_colour`, `method_line_style`, `method_label` (no matplotlib: the report uses
it too) |

Nothing here reads a file, imports another folder of pflow, or changes pyplot's global state. The
modules are imported one by one, so that the palette stays importable without matplotlib.
"""
