package main

const (
	sysSetns        = 268
	sysBpf          = 280
	sysOpenByHandle = 265
	sysUserfaultfd  = 282
)
