"""Pictures of chosen frames in a folder, within a quota."""
