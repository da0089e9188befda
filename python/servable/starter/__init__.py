"""The files of a starter project, which ``servable new`` copies; ``@NAME@`` stands for the model's name."""
