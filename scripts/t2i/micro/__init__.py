"""The miniature: pictures, model, training, evaluation."""
