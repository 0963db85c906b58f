"""What is found without any training: what the images themselves tell, and what a network tells as it begins."""
