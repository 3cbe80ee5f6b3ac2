"""How the mini model was made: captioned scenes, training, evaluation."""
