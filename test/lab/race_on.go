//go:build race

package lab

// raceEnabled is whether this program was built with the race detector.
const raceEnabled = true
