// Package config gathers the settings of the millrace commands from, in this
// order, flags, the environment, a YAML file and defaults, and checks them all
// together: a wrong configuration is reported once, with everything that is
// wrong in it, each named by the flag, variable or key that holds it.
package config
