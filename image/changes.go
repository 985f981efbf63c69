package image

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

// Apply changes the configuration as lines of a Dockerfile do: CMD,
// ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER,
// VOLUME and WORKDIR. Variables are not expanded. Errors Is fs.ErrInvalid and
// quote the line; c is then unchanged.
func (c *RunConfig) Apply(changes ...string) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	var next RunConfig
	if err := json.Unmarshal(data, &next); err != nil {
		return err
	}
	for _, line := range changes {
		if err := next.apply(line); err != nil {
			return fault.New("image change", strconv.Quote(line), err)
		}
	}
	*c = next
	return nil
}

func (c *RunConfig) apply(line string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	word, rest = strings.ToUpper(word), strings.TrimSpace(rest)
	if rest == "" {
		return fault.Invalid("needs an instruction and its argument, such as %q", `CMD ["/bin/sh"]`)
	}
	switch word {
	case "CMD":
		c.Cmd, _ = command(rest, c.Shell)
	case "ENTRYPOINT":
		c.Entrypoint, _ = command(rest, c.Shell)
	case "USER":
		c.User = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", c.WorkingDir, rest)
		}
		c.WorkingDir = path.Clean(rest)
	case "ENV":
		return pairs(rest, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	case "LABEL":
		return pairs(rest, func(k, v string) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[k] = v
		})
	case "EXPOSE":
		return c.expose(rest)
	case "VOLUME":
		return c.volumes(rest)
	case "HEALTHCHECK":
		h, err := parseHealthcheck(rest, c.Shell)
		c.Healthcheck = h
		return err
	default:
		return fault.Invalid("instruction %s is none of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR", word)
	}
	return nil
}

// command reads the exec form (a JSON array) or the shell form.
func command(s string, shell []string) (args []string, viaShell bool) {
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &args) == nil {
		return args, false
	}
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), s), true
}

// pairs reads K=V K2="V 2", or the old form K V.
func pairs(s string, set func(k, v string)) error {
	words, err := splitWords(s)
	if err != nil {
		return err
	}
	if !strings.Contains(words[0], "=") {
		k, v, ok := strings.Cut(s, " ")
		if !ok {
			return fault.Invalid("%s has no value: want %s=VALUE", k, k)
		}
		set(k, strings.TrimSpace(v))
		return nil
	}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return fault.Invalid("%q is not KEY=VALUE; quote values with spaces", w)
		}
		set(k, v)
	}
	return nil
}

// splitWords splits at blanks, with the quoting of a shell and no expansion.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, in := byte(0), false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fault.Invalid("a quote is not closed")
	}
	if in {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, fault.Invalid("needs an argument")
	}
	return words, nil
}

func setEnv(env []string, k, v string) []string {
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); name == k {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

func (c *RunConfig) expose(s string) error {
	words, err := splitWords(s)
	if err != nil {
		return err
	}
	for _, w := range words {
		ports, proto, found := strings.Cut(strings.ToLower(w), "/")
		if !found {
			proto = "tcp"
		}
		from, to, isRange := strings.Cut(ports, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if errA != nil || errB != nil || a == 0 || b < a || proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fault.Invalid("port %q is malformed: want 80, 80/udp or 8000-8010/tcp", w)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		for p := a; p <= b; p++ {
			c.ExposedPorts[strconv.FormatUint(p, 10)+"/"+proto] = struct{}{}
		}
	}
	return nil
}

func (c *RunConfig) volumes(s string) error {
	var dirs []string
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &dirs) != nil {
		var err error
		if dirs, err = splitWords(s); err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if !path.IsAbs(d) || path.Clean(d) == "/" {
			return fault.Invalid("volume %q is not an absolute path below /", d)
		}
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[d] = struct{}{}
	}
	return nil
}

func parseHealthcheck(s string, shell []string) (*Healthcheck, error) {
	h := &Healthcheck{}
	for strings.HasPrefix(s, "--") {
		flag, rest, _ := strings.Cut(s, " ")
		s = strings.TrimSpace(rest)
		k, v, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		d, err := time.ParseDuration(v)
		switch k {
		case "interval":
			h.Interval = d
		case "timeout":
			h.Timeout = d
		case "start-period":
			h.StartPeriod = d
		case "start-interval":
			h.StartInterval = d
		case "retries":
			h.Retries, err = strconv.Atoi(v)
			d = time.Duration(h.Retries)
		default:
			return nil, fault.Invalid("flag --%s is unknown", k)
		}
		if err != nil || d < 0 {
			return nil, fault.Invalid("flag --%s has the malformed value %q", k, v)
		}
	}
	kind, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(kind, "NONE") && rest == "":
		return &Healthcheck{Test: []string{"NONE"}}, nil
	case strings.EqualFold(kind, "CMD") && rest != "":
		if args, viaShell := command(rest, shell); !viaShell {
			h.Test = append([]string{"CMD"}, args...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
		return h, nil
	}
	return nil, fault.Invalid("want NONE or CMD and a command")
}
