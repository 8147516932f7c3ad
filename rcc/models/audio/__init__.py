"""Turn sounds into what models of speech take: one channel at the model's rate, windows, log-mel spectrograms."""
