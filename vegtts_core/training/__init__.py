"""Training: rewards to advantages to gradients (sections 3.3 to 3.6, appendix E).

`rewards`, `advantages`, `teacher` and `replay` are pure: numbers, texts and tables in, numbers and texts out.
"""
