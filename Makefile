# Every check that a change must pass: see .ci/run, which also runs single steps.
check:
	.ci/run

# Archives for every platform in dist/: make release VERSION=v1.2.3. See docs/release.md.
release:
	go run ./internal/release -version "$(VERSION)" -o dist

.PHONY: check release
