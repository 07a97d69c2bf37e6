# Every check that a change must pass: see .ci/run, which also runs single steps.
check:
	.ci/run

# Archives for every platform in dist/: make release VERSION=v1.2.3. See docs/release.md.
release:
	go run ./internal/release -version "$(VERSION)" -o dist

# The report's page in Chromium: see eval/report/browser.
browser:
	.ci/run browser

# The report's chart library, from the versions of npm's packages that eval/report/browser/package.json names.
charts:
	npm ci --prefix eval/report/browser --ignore-scripts
	npm run --prefix eval/report/browser charts

.PHONY: check release browser charts
