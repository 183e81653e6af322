// Package historytest tests what every schedule.History must do.
package historytest
