// Package locktest is what every schedule.LockProvider and schedule.History keeps
// to, as test suites that run against real servers.
package locktest
