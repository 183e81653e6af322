// Package fetch finds the servers that are installed on this machine, downloads
// those that are not, and keeps them in a cache between runs.
package fetch
