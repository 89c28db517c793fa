// What is kept between two visits (`visits`) or until the tab closes (`tab`); where the browser keeps nothing, until the page goes.

function memory(storage) {
  const held = new Map();
  return {
    get(name) {
      try {
        return storage().getItem(name);
      } catch {
        return held.get(name) ?? null;
      }
    },
    set(name, value) {
      try {
        storage().setItem(name, value);
      } catch {
        held.set(name, value);
      }
    },
  };
}

export const visits = memory(() => localStorage);
export const tab = memory(() => sessionStorage);
