"""What is still to be asked of an annotator, and what it has answered on its way to the lake."""
