package image

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever config.json says is refused without quoting it, or kept.
func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"a":{"auth":"x"}},"credsStore":"pass","credHelpers":{"b":"c"}}`))
	f.Add([]byte(`{"auths":null}`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &dockerConfig{dir: "/nowhere"}
		if err := d.parse(data); err != nil {
			if len(data) > 20 && strings.Contains(err.Error(), string(data)) {
				t.Errorf("the error quotes the file: %v", err)
			}
			return
		}
		if auths, err := section[json.RawMessage](d, "auths"); err == nil && auths == nil {
			t.Error("no map")
		}
		d.helper("x")
		if _, err := json.Marshal(d.fields); err != nil {
			t.Error(err)
		}
	})
}

// No answer of a registry makes an upload go backwards or past the end.
func FuzzRangeEnd(f *testing.F) {
	f.Add("0-99")
	f.Add("bytes=0-0")
	f.Add("0-9223372036854775807")
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := rangeEnd(s); n < 0 || !ok && n != 0 {
			t.Errorf("%q: %d %v", s, n, ok)
		}
	})
}
