// Package proc runs other programs for the tests: it starts, freezes and ends
// processes, holds locks and ports that end with the process, and cleans up
// after a test process that could not do so itself.
package proc
