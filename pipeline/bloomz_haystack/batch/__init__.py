"""A file of questions -> a file of answers: `questions` reads the one, `answer_file` writes the other."""
