# Every check that a change must pass: see .ci/run, which also runs single steps.
check:
	.ci/run

.PHONY: check
