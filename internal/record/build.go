package record

// LabelBuild marks the containers in which commands of builds run.
const LabelBuild = "amphora.build"

// Build is what the command of a build has besides what containers have: its
// root is made of any directories, its changes go where a build wants them.
type Build struct {
	Root    Tree     `json:"root"`
	Trees   []Tree   `json:"trees,omitempty"`   // that mounts of the container come from
	Secrets []Secret `json:"secrets,omitempty"` // the values come with the launch

	// Of directories that were made to lead to a mount point, those above it
	// stay in Root.Upper. The mount points never do.
	KeepParents bool `json:"keepParents,omitempty"`
}

// Tree is made before the container starts: from directories as an overlay, or
// it is a directory of the host.
type Tree struct {
	Name     string   `json:"name,omitempty"`  // of the mount point, in the container's directory; the root has none
	Lower    []string `json:"lower,omitempty"` // absolute, top first; none: an empty tree
	Upper    string   `json:"upper,omitempty"` // takes changes; empty: there can be none
	Work     string   `json:"work,omitempty"`
	Dir      string   `json:"dir,omitempty"`      // of the host, instead of the above
	Selector string   `json:"selector,omitempty"` // of what is mounted, in the tree; empty: all
}

// Selected is where the selected part of the tree is, in the container's
// directory.
func (t *Tree) Selected() string { return t.Name + ".part" }

// Secret is a file that is never on disk, in the container's directory.
type Secret struct {
	Name string `json:"name"`
	UID  uint32 `json:"uid,omitempty"`
	GID  uint32 `json:"gid,omitempty"`
	Mode uint32 `json:"mode"`
}
