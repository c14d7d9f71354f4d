"""The MLflow view of the local files: `view` says what it should show, `store` brings it there."""
