"""One's own folder of pictures: the scan that accounts for every file, its layouts, what headers say."""
