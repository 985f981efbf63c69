package container

import (
	"cmp"
	"context"
	"fmt"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/shim"
)

// Processes is a table of a container's processes.
type Processes struct {
	Titles []string   `json:"titles"`
	Rows   [][]string `json:"rows"`
}

// Top lists the running container's processes as ps does, by the host's
// process ids and the host's names of users. No ps program is needed, here or
// in the container. args are ps's: "-ef" is the default, "aux" shows use of
// memory, "-o pid,ppid,args" (or "-eo") chooses columns, of those in both and
// comm, etime, nice, nlwp, s and ucmd. Others are fs.ErrInvalid.
func (c *Container) Top(ctx context.Context, args ...string) (*Processes, error) {
	p, err := c.top(ctx, args)
	if err != nil {
		return nil, c.fail("top", err)
	}
	return p, nil
}

// psColumn shows one property of a process.
type psColumn struct {
	title string
	cell  func(*psView, *proc.Process) string
}

// psView is what columns need besides the process.
type psView struct {
	now   time.Time
	total uint64
	users map[int]string
}

func (v *psView) user(uid int) string {
	if v.users[uid] == "" {
		v.users[uid] = strconv.Itoa(uid)
		if u, err := user.LookupId(v.users[uid]); err == nil {
			v.users[uid] = u.Username
		}
	}
	return v.users[uid]
}

// busy is the share of one processor over the life of a process, in percent.
func (v *psView) busy(p *proc.Process) float64 {
	life := v.now.Sub(p.Start)
	if life <= 0 {
		return 0
	}
	return float64(p.CPU) / float64(life) * 100
}

func clock(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

func (v *psView) start(p *proc.Process) string {
	t := p.Start.Local()
	if v.now.Sub(t) < 24*time.Hour {
		return t.Format("15:04")
	}
	return t.Format("Jan02")
}

func number[T ~int | ~uint64](f func(*proc.Process) T) func(*psView, *proc.Process) string {
	return func(_ *psView, p *proc.Process) string { return fmt.Sprint(f(p)) }
}

func text(f func(*proc.Process) string) func(*psView, *proc.Process) string {
	return func(_ *psView, p *proc.Process) string { return f(p) }
}

// psColumns are ps's, by the names that -o takes.
var psColumns = map[string]psColumn{
	"user":  {"USER", func(v *psView, p *proc.Process) string { return v.user(p.UID) }},
	"uid":   {"UID", number(func(p *proc.Process) int { return p.UID })},
	"pid":   {"PID", number(func(p *proc.Process) int { return p.Pid })},
	"ppid":  {"PPID", number(func(p *proc.Process) int { return p.PPid })},
	"c":     {"C", func(v *psView, p *proc.Process) string { return fmt.Sprint(int(min(v.busy(p), 99))) }},
	"stime": {"STIME", (*psView).start},
	"start": {"START", (*psView).start},
	"tty":   {"TTY", text(func(p *proc.Process) string { return p.TTY })},
	"time":  {"TIME", text(func(p *proc.Process) string { return clock(p.CPU) })},
	"etime": {"ELAPSED", func(v *psView, p *proc.Process) string { return clock(v.now.Sub(p.Start)) }},
	"cmd":   {"CMD", text(func(p *proc.Process) string { return p.Args })},
	"args":  {"COMMAND", text(func(p *proc.Process) string { return p.Args })},
	"comm":  {"COMMAND", text(func(p *proc.Process) string { return p.Comm })},
	"%cpu":  {"%CPU", func(v *psView, p *proc.Process) string { return fmt.Sprintf("%.1f", v.busy(p)) }},
	"%mem": {"%MEM", func(v *psView, p *proc.Process) string {
		return fmt.Sprintf("%.1f", float64(p.RSS)/float64(max(v.total, 1))*100)
	}},
	"vsz":  {"VSZ", number(func(p *proc.Process) uint64 { return p.VSize >> 10 })},
	"rss":  {"RSS", number(func(p *proc.Process) uint64 { return p.RSS >> 10 })},
	"stat": {"STAT", text(func(p *proc.Process) string { return p.State })},
	"s":    {"S", text(func(p *proc.Process) string { return p.State })},
	"nice": {"NI", number(func(p *proc.Process) int { return p.Nice })},
	"nlwp": {"NLWP", number(func(p *proc.Process) int { return p.Threads })},
}

// psAliases are further names of columns.
var psAliases = map[string]string{"pcpu": "%cpu", "pmem": "%mem", "tt": "tty", "tname": "tty", "cputime": "time", "command": "args",
	"ucmd": "comm", "ucomm": "comm", "state": "s", "ni": "nice", "rssize": "rss", "vsize": "vsz", "euid": "uid", "euser": "user", "thcount": "nlwp"}

// psArguments chooses the columns.
func psArguments(args []string) ([]psColumn, error) {
	var columns []psColumn
	named := func(names ...string) (out []psColumn) {
		for _, n := range names {
			out = append(out, psColumns[n])
		}
		return out
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		list, isList := strings.CutPrefix(strings.Replace(arg, "-eo", "-o", 1), "-o")
		switch {
		case arg == "-ef" || arg == "-f" || arg == "-e" || arg == "-A" || arg == "ef":
		case arg == "aux" || arg == "-aux" || arg == "u":
			columns = named("user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "time", "args")
		case isList || arg == "o":
			if list = strings.TrimPrefix(list, "="); list == "" || arg == "o" {
				if i++; i == len(args) {
					return nil, fault.Invalid("ps %s: give columns, such as pid,args", arg)
				}
				list = args[i]
			}
			for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) {
				key := strings.ToLower(name)
				if psAliases[key] != "" {
					key = psAliases[key]
				}
				col, ok := psColumns[key]
				if !ok {
					return nil, fault.Invalid("ps has no column %q here", name)
				}
				columns = append(columns, col)
			}
		default:
			return nil, fault.Invalid("ps argument %q: use -ef, aux or -o COLUMN,...", arg)
		}
	}
	if columns == nil {
		columns = named("user", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
		columns[0].title = "UID"
	}
	return columns, nil
}

func (c *Container) top(ctx context.Context, args []string) (*Processes, error) {
	columns, err := psArguments(args)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "linux" {
		return nil, fault.Unsupported("listing processes needs Linux")
	}
	var pids []int
	if err = c.ask(ctx, func(client *shim.Client) (e error) { pids, e = client.Pids(ctx); return e }); err != nil {
		return nil, err
	}
	boot, err := proc.Boot()
	if err != nil {
		return nil, fault.Opaque(err)
	}
	v := &psView{now: time.Now(), total: proc.TotalMemory(), users: map[int]string{}}
	t := &Processes{Rows: [][]string{}}
	for _, col := range columns {
		t.Titles = append(t.Titles, col.title)
	}
	var all []*proc.Process
	for _, pid := range pids {
		p, err := proc.ReadProcess(pid, boot)
		if proc.IsGone(err) {
			continue // it has ended since it was listed
		}
		if err != nil {
			return nil, fault.Opaque(err)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *proc.Process) int { return cmp.Compare(a.Pid, b.Pid) })
	for _, p := range all {
		row := make([]string, len(columns))
		for i, col := range columns {
			row[i] = col.cell(v, p)
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}
