// Package lab has what only Millrace's own tests need beside package harness:
// programs under test, Go and Java, a proxy that breaks commits, a frozen
// postmaster, free ports.
package lab
