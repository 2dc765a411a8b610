"""Where pictures come from: files and folders, video files, cameras."""
