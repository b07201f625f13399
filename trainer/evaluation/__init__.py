"""The evaluation of a trained model: scores, pictures and the model card."""
