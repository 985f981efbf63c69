package volumes

import (
	"os"
	"path"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

const localDriver = "local"

// Spec says what volume to make.
type Spec struct {
	Name      string // empty: a random one of 64 hex digits, and anonymous
	Labels    map[string]string
	Driver    string            // "local" or empty
	Options   map[string]string // of the driver: see checkOptions
	Anonymous bool              // it goes with its container, and with Prune
	// Volatile volumes need not survive power loss: they belong to a container
	// that is removed at its end.
	Volatile bool
}

// checked returns a copy with defaults filled in.
func (s *Spec) checked() (*Spec, error) {
	c := Spec{}
	if s != nil {
		c = *s
	}
	if c.Name == "" {
		c.Name, c.Anonymous = record.NewID(), true
	}
	if err := record.CheckName(c.Name); err != nil {
		return nil, err
	}
	if c.Driver == "" {
		c.Driver = localDriver
	}
	if c.Driver != localDriver {
		return nil, fault.Unsupported("there is no volume driver %q: use %q", c.Driver, localDriver)
	}
	return &c, checkOptions(c.Options)
}

// checkOptions knows what Docker's local driver takes: type, o and device, as
// for mount(8). Supported is type=none (or bind), o=bind or rbind,
// device=/directory. Empty values are as none.
func checkOptions(options map[string]string) error {
	for k, v := range options {
		switch {
		case k == "type" || k == "o" || k == "device":
		case v == "":
		case k == "size":
			return fault.Unsupported("the option size=%s (a quota) of the local driver is not there yet: use a tmpfs mount with a size, or a file system of its own", v)
		default:
			return fault.Invalid("unknown option %q of the local driver: use type, o and device", k)
		}
	}
	typ, o, device := options["type"], options["o"], options["device"]
	switch typ {
	case "":
		if o != "" || device != "" {
			return fault.Invalid("the options o and device of the local driver need type=none")
		}
		return nil
	case "none", "bind":
	case "tmpfs":
		return fault.Unsupported("volumes of type=tmpfs are not there yet: use a mount of type tmpfs")
	default:
		return fault.Unsupported("volumes of type=%s are not there yet: mount it on the host and use type=none,o=bind,device=DIRECTORY", typ)
	}
	if !path.IsAbs(device) {
		return fault.Invalid("the option device=%s must be an absolute path of a directory", device)
	}
	if typ == "none" && !hasWord(o, "bind") && !hasWord(o, "rbind") {
		return fault.Invalid("the option type=none needs o=bind")
	}
	for w := range strings.SplitSeq(o, ",") {
		if w != "" && w != "bind" && w != "rbind" {
			return fault.Unsupported("the mount option %q of a volume is not there yet: give it to the container's mount", w)
		}
	}
	return nil
}

// checkDevice says whether the directory that a volume is bound to is there.
// It need not be when the volume is made, only when a container wants it.
func checkDevice(device string) error {
	if device == "" {
		return nil
	}
	info, err := os.Stat(device)
	if err != nil {
		return fault.Invalid("the volume is bound to a directory that cannot be had: %w; make it, or remove the volume", fault.Opaque(err))
	}
	if !info.IsDir() {
		return fault.Invalid("the volume is bound to %s, which is no directory", device)
	}
	return nil
}

// hasWord looks for a word in a list separated by commas.
func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

func isID(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}
