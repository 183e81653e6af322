// Package locktest tests what every lock.Provider must do, against real servers.
package locktest
