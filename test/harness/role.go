package harness

import (
	"os"
	"os/exec"
	"strings"
)

// The harness starts this very program again for two roles: the janitor, which
// cleans up after a process that could not, and the supervisor of a server that
// several processes share. The role is played before anything else of the
// program runs, tests included; programs must not set envRole themselves.
const (
	envRole        = "MILLRACE_HARNESS_ROLE"
	roleJanitor    = "janitor"
	roleSupervisor = "supervisor"
)

func init() {
	role := os.Getenv(envRole)
	if role == "" {
		return
	}
	_ = os.Unsetenv(envRole) // what the role starts plays none
	code := 2
	switch role {
	case roleJanitor:
		code = runJanitor(os.Stdin)
	case roleSupervisor:
		code = runSupervisor(os.Args[1:])
	}
	os.Exit(code)
}

// roleCommand is this program in a role, detached from terminal, standard
// streams and folder.
func roleCommand(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(selfPath, args...)
	cmd.Args[0] = "millrace-harness-" + role
	cmd.Dir = os.TempDir()
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GOCOVERDIR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, envRole+"="+role)
	detach(cmd, nil)
	return cmd
}
