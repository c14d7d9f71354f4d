"""How commands run: arguments, processes, devices, progress, and which runs are finished."""
