"""What results amount to: figures, comparisons, judged texts, plots, pages. No model or slide is needed."""
