"""Copy a study to the committed `reports/`, and verify what is there."""
