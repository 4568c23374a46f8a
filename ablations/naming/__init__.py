"""The reference experiment: predict a method's name from its body."""
