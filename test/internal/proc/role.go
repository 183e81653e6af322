package proc

import (
	"os"
	"os/exec"
	"strings"
)

// A test program starts itself again for two roles: the cleaner, which ends what
// a process left behind, and the supervisor of a server that several processes
// share. The role runs from an init function, before anything else of the
// program, tests included. Programs must not set envRole themselves.
const (
	envRole     = "MILLRACE_HARNESS_ROLE"
	roleCleaner = "cleaner"
)

func init() { PlayRole(roleCleaner, func([]string) int { return runCleaner(os.Stdin) }) }

// PlayRole runs life and exits with its result if this process was started for
// the role. Call it from an init function. life gets the arguments of
// RoleCommand.
func PlayRole(role string, life func(args []string) int) {
	if os.Getenv(envRole) != role {
		return
	}
	_ = os.Unsetenv(envRole) // the programs that the role starts have no role
	os.Exit(life(os.Args[1:]))
}

// RoleCommand is this program in a role, detached from terminal, standard streams
// and working directory.
func RoleCommand(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(selfPath, args...)
	cmd.Args[0] = "millrace-harness-" + role
	cmd.Dir = os.TempDir()
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GOCOVERDIR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, envRole+"="+role)
	Detach(cmd, nil)
	return cmd
}
