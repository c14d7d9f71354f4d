"""What Snakemake and DVC need to know: their stages' code, and dvc.yaml."""
