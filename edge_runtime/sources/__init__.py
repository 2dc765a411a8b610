"""Image sources: files and folders, video files and cameras."""
