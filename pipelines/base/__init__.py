"""What every room stands on: errors, files with receipts, measuring, metrics, tables as CSV."""
