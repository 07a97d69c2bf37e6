// Package score scores generated text against references: exact match and F1 of short answers, ROUGE and BLEU.
//
// Every function equals the implementation that published results use: the evaluation scripts of SQuAD and TriviaQA,
// lm-evaluation-harness, rouge-score and sacrebleu. testdata holds what they return.
package score
