"""Measure generated captions: BLEU, CIDEr-D, ROUGE-L, METEOR, SPICE, CLIPScore."""
