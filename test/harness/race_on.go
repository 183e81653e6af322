//go:build race

package harness

// raceEnabled is whether this program was built with the race detector.
const raceEnabled = true
