"""TODO sar/trained"""
