"""The rules behind the table of claims, a module per thing that claims are about; each decides by intervals.

They know runs and protocols' views; where runs come from is known to ``verdicts_study``, the words are in ``verdicts``.
"""
