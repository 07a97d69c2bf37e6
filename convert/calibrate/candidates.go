package calibrate

// Candidates is how many times Data.Tokens to read of a text, for windows to be drawn from.
const Candidates = 16
