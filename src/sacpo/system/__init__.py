"""What every part stands on: run folders, several processes, progress, memory and what the machine refuses."""
