package testenv

import (
	"os"
	"testing"
)

// Variables of a test run. They are removed from the environment as soon as
// they were read, so that nothing that tests start inherits them.
const (
	envDir   = "AMPHORA_TESTENV_DIR"   // the run's directory: this process runs the tests
	envChild = "AMPHORA_TESTENV_CHILD" // this process runs the function of that name
	envStep  = "AMPHORA_TESTENV_STEP"  // the step plan of the child, as JSON
)

// Main runs the tests of a package and fails when something is left behind. It
// does not return.
//
// On Linux the tests run in a child of this process. This process is a child
// subreaper, so that every process that a test started, however it detached
// itself, ends up below it: that makes the list of leaked processes exact even
// when several test binaries run at once, and also after a panic or a time
// limit. All temporary files of the run lie in one directory, which tells our
// mounts from others'; cgroups and links are told by the ids of the Roots made
// in it. What leaked is printed, then removed, and the exit code is 1.
//
// Under a debugger, AMPHORA_TESTENV_DIR=<an empty directory> has the tests run in
// the first process, without the check of the machine.
//
// Children made by RunChild start here, too: call Main before anything else in
// TestMain, but after the functions were registered with Child.
func Main(m *testing.M) {
	runDir = os.Getenv(envDir)
	child, plan := os.Getenv(envChild), os.Getenv(envStep)
	for _, name := range []string{envDir, envChild, envStep} {
		os.Unsetenv(name)
	}
	if child != "" {
		os.Exit(runChild(child, plan))
	}
	os.Exit(run(m))
}
