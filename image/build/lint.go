package build

// LintResult is what Lint found.
type LintResult struct {
	Warnings []Warning
	// Err is why the Dockerfile cannot be built, if lint can see that: an
	// *Error. The warnings are then those up to there.
	Err error
}

// Outline says what a target of a Dockerfile can be given.
type Outline struct {
	Target      string // its name; "" if it has none
	Description string // from the comment above its FROM
	Args        []OutlineArg
	Secrets     []OutlineSecret
	SSH         []OutlineSecret
	Caches      []OutlineCache
}

// OutlineArg is an argument that matters for the target.
type OutlineArg struct {
	Name, Description string
	Value             string // that it has, given or by default
	Place             Place
}

// OutlineSecret is a secret, or an agent, that commands mount.
type OutlineSecret struct {
	ID       string
	Required bool // a build without it fails
	Place    Place
}

// OutlineCache is a cache mount.
type OutlineCache struct {
	ID    string
	Place Place
}

// Target is a stage of a Dockerfile.
type Target struct {
	Name        string // "" if it has none
	Description string // from the comment above its FROM
	Default     bool   // it is built when no target is named
	Base        string // what FROM names, as it stands there
	Platform    string // of FROM --platform, as it stands there
	Place       Place
}
