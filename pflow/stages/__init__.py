"""One module a stage: settings and paths in, files out. Each has one public function named like its
module.
"""
