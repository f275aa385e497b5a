# Distribution starts here, and not with `elixir --name`, so that plain `mix test` will do.  It needs an epmd
# that is running already: only a node that has its name from the command line starts one.
{:ok, _} = Node.start(:"sample@127.0.0.1", :longnames)
Node.set_cookie(:biscuit)
ExUnit.start()
