package volumes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// User is a container that uses a volume.
type User struct{ ID, Name string }

func (u User) String() string {
	if u.Name == "" {
		return record.Short(u.ID)
	}
	return u.Name + " (" + record.Short(u.ID) + ")"
}

// Users reads all containers and returns who uses which volume. A container
// whose record cannot be read may use any: its error is returned beside the
// rest.
func (s *Store) Users() (map[string][]User, error) {
	users := map[string][]User{}
	ids, err := s.root.IDs()
	if err != nil {
		return users, err
	}
	var errs []error
	for _, id := range ids {
		c, err := s.container(id)
		if err != nil {
			errs = append(errs, fault.Opaque(fmt.Errorf("cannot tell which volumes container %s uses: %w; remove that container first", record.Short(id), err)))
			continue
		}
		seen := map[string]bool{}
		for _, use := range c.Volumes {
			if !seen[use.Name] {
				seen[use.Name] = true
				users[use.Name] = append(users[use.Name], User{id, c.Name})
			}
		}
	}
	return users, errors.Join(errs...)
}

// container reads a record, or the one that a killed creator had prepared: it
// may be logged already, and is the record once somebody settles it. The order
// matters: a rename between the two reads must not hide it.
func (s *Store) container(id string) (*record.Container, error) {
	c, err := s.root.Load(id)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	next := new(record.Container)
	if b, err := os.ReadFile(s.root.Path(id, "record.json.next")); err == nil && json.Unmarshal(b, next) == nil {
		return next, nil // torn ones were never logged
	}
	c, err = s.root.Load(id)
	if errors.Is(err, fs.ErrNotExist) {
		return new(record.Container), nil
	}
	return c, err
}

// inUse says who uses a volume, as an error.
func inUse(users []User) error {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = u.String()
	}
	return fault.Kind(fault.ErrInUse, "in use by container %s: remove that first", strings.Join(names, ", "))
}
