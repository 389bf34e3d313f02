"""What a lent GPU makes of the encoders' and the annotator's shapes, in under six minutes and without a download."""
