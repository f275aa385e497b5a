/* Part of CPython's Modules/getpath.c in the Python of scripts/portable (see change-source).
 *
 * An embedding program that gives its home, sys.path and name, as PyInstaller's launcher does, leaves nothing to
 * search for. Without this, CPython would still run getpath.py, which takes a twentieth of the time of `epmd -names`. */

static int
are_paths_given(const PyConfig *config)
{
    return config->home != NULL && config->program_name != NULL && config->module_search_paths_set;
}

static PyStatus
take_given_paths(PyConfig *config)
{
    struct { wchar_t **to; const wchar_t *value; } given[] = {
        {&config->executable, config->program_name},
        {&config->base_executable, config->program_name},
        {&config->prefix, config->home},
        {&config->exec_prefix, config->home},
        {&config->base_prefix, config->home},
        {&config->base_exec_prefix, config->home},
        /* The submodules of a frozen package are looked for in its folder here. */
        {&config->stdlib_dir, config->home},
    };
    for (size_t index = 0; index < Py_ARRAY_LENGTH(given); index++) {
        if (*given[index].to == NULL) {
            PyStatus status = PyConfig_SetString(config, given[index].to, given[index].value);
            if (_PyStatus_EXCEPTION(status)) {
                return status;
            }
        }
    }
    return _PyStatus_OK();
}
