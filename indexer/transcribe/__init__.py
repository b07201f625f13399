"""What recordings say: Whisper models that transcribe them while they are indexed."""
